"""A method and a task that bench does not know, written against its public interface."""
