"""A third-party method and task for bench, built on its public interface."""
