"""What the platform is: tables, states, every state-changing query, providers, limits. No Flask."""
