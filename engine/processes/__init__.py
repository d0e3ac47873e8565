"""What holds a run's processes together: channels, records on their way, orders, pid files."""
