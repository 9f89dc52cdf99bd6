"""The command line: a module for each command, and what they share.

Each has ``main(argv)``, which returns what the command found; ``usage.run`` ends the process.
"""
