"""HTTP: the performance model as a stateless API. Needs the extra `web`."""
