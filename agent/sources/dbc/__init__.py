"""DBC files: as they are found in the wild, and compiled to tables without cantools."""
