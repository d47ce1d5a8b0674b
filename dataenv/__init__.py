"""dataenv: a gymnasium for teachers, agents that decide which training data a student model needs next."""
