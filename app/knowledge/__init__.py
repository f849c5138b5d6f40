"""Answers from the user's own documents.

file -> converting -> chunking -> embedders -> database + vectors  (indexing)
question -> retrieval -> refusal -> answering -> citations         (asking)
"""
