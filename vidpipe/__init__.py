"""vidpipe: videos in a bucket become tables that anyone can query."""

__version__ = "0.1.0"
