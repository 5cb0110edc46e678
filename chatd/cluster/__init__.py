"""Several servers on one store: MongoDB holds the truth, NATS carries the news."""
