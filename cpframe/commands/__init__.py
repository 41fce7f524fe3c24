"""What each command does, one module per command: options go in; a trained study, a printed report or files come out.

`cpframe.cli` parses the command line and calls these. A new command is a module here and a function there.
"""
