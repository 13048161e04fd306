"""A process that serves real HTTP at the speed an engine model gives it."""
