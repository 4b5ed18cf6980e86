"""What becomes of videos that lack something: what a form offers. Light on purpose.

Frames and sound that do not decode are dealt with where they are extracted (`vidpipe/media/`).
"""

KEEP, LEAVE_OUT = "keep", "leave_out"
INCOMPLETE = {
    KEEP: "as they were extracted; what is measured is shown with and without them",
    LEAVE_OUT: "they are not learnt from, and do not judge",
}
PSEUDO_LABEL_SCORE = 0.95
