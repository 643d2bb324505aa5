"""What partners may do beyond their keys: streams, suspensions, and the budgets they share."""
