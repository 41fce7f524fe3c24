"""What each command does, one module a command: options in, a study run, a report printed, or files written out.

`cpframe.cli` parses the command line and calls these. A new command is a module here and a function there.
"""
