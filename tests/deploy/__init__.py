"""What operators copy: the image, compose, Kubernetes, systemd, alerts and dashboard."""
