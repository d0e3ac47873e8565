"""Messages between processes: jobs, results, weight references and the control socket."""
