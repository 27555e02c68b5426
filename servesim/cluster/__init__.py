"""The model of a serving cluster: arrivals, routing and replicas on one SimPy clock."""
