"""Hands a study over: a trial as something to deploy, the record as other tools read it."""
