"""Result files of other load generators, one file each; the registry imports them on demand."""
