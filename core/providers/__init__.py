"""What each provider speaks: requests, answers, errors, limits; pure functions of values."""
