"""The crash harness: every operation of every primitive, killed at every instruction."""
