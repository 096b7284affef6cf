"""What a batch will take and cost, told before it is submitted; nothing is stored."""
