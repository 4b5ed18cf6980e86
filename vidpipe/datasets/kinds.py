"""What labels may be told of. Light on purpose: forms and plans read it."""

SINGLE, SEVERAL, TIMED = "single", "several", "timed"
KINDS = {
    SINGLE: "one label a video",
    SEVERAL: "any number of labels a video",
    TIMED: "labels with times: when something happens",
}
