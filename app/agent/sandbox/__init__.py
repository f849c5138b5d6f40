"""Sandbox for untrusted Python: one locked process per session, forked from a preloaded fork server.

On the server's side                              In the fork server and its children
host.py     starts the parent, opens sessions     parent.py    forks one child a session
session.py  one visitor's interpreter             warmup.py    what is imported and read beforehand
child.py    one child's socket, pipe, process     lockdown.py  what a child does to itself (by app/lockdown)
storage.py  a session's folder
channel.py  messages, read as hostile             worker.py    runs cells
probe.py    locks a child and attacks it, to find out what this machine can do
"""
