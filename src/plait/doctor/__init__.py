"""What is wrong with this machine or path, and the cure.

A *probe* reads the machine (or a captured one), a *check* finds one kind of trouble in what was read, a *fix* is a cure
that can be applied and taken back. Checks are pure: the same machine gives the same findings.
"""
