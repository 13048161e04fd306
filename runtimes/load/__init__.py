"""The load generator: arrivals, the streaming client, the stage."""
