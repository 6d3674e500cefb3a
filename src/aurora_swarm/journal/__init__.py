"""What must not be lost: finished work, kept so that the same run resumes.

`journal.open.open_journal` opens a journal by path or URL.
"""
