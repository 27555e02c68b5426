"""Client pools after ServeGen: what each client of a service sends, read, composed to a workload, and fitted."""
