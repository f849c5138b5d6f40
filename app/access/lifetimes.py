"""Retention of uploads and sessions: how long what a visitor leaves behind is kept, in seconds."""

PASSING_S = 60.0  # a program's session without an open connection, after its last use
SESSION_SWEEP_S = 15.0
CLOSED_PAGE_S = 20.0  # a page that was closed may be a connection that broke off and comes back
SETTLING_S = 8.0  # events that were cut short may still touch a session's state for so long
SILENT_PAGE_S = 3600.0  # a page whose connection broke off may never say that it was closed

USED_UPLOAD_S = 20.0  # equal files of two visitors are one file on disk: the other one gets time to read it
BROKEN_UPLOAD_S = 10.0  # what was not written to for so long is no upload under way, of another process either
UPLOAD_SWEEP_S = 15.0  # after the last upload has ended
LEFTOVER_SWEEP_S, LEFTOVER_UPLOAD_S = 3600, 86_400  # every hour what is older than a day: uploads nobody ever used
