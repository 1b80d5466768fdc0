"""Running grids on machines that are shared: launchers, and a private cluster to try them on."""
