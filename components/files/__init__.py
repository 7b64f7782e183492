"""Where the files of artifacts lie, and how they are read and written, local and remote."""
