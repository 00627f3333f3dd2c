"""What keeps the operator going: the queue of agents, the looks at them, the kill path's own thread, health."""
