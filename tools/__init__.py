"""Programs beside the services: the operators' command, the simulator, the demo, generators."""
