"""Where bundles of devices live: Ray, local processes, this process."""
