"""The rehearsal itself, in a process of its own. The only room that imports torch; `launch` and `plan` do not."""
