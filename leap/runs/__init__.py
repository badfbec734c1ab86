"""Who works, and how far it is: status files, the monitor, jobs, workers, processes."""
