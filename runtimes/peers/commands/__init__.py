"""Other load generators as programs, one file each; the registry imports them on demand."""
