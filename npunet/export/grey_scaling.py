"""How a package says that stored grey values become 0..1, which is how the network's training images were scaled."""

from dataclasses import dataclass

import numpy as np

from npunet.files import images

AS_FLOAT32 = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}  # without it the type of the input comes back
CLIP = {"id": "clip", "kwargs": {"min": 0.0, "max": 1.0}}


@dataclass(frozen=True)
class GreyScaling:
    """Stored values `low` and `high` become 0 and 1; without them, two percentiles of each picture do."""

    dtype: type  # of the pictures that the package takes
    low: float | None = None
    high: float | None = None

    @classmethod
    def of(cls, rule, stored=None):
        """That of a `files.images.GreyRule`, None for a network that has seen 8 bits alone.

        stored: the type of an example's pixels; without one, 8 bits for a network that has seen nothing else, or 16.
        """
        if stored is None:
            stored = np.uint8 if rule is None else np.uint16
        if stored == np.uint8:
            return cls(np.uint8, 0.0, 255.0)
        rule, floats = rule or images.GreyRule(), np.dtype(stored).kind == "f"
        if rule.by == "type":
            return cls(np.float32, 0.0, 1.0) if floats else cls(np.uint16, 0.0, 65535.0)
        if rule.by == "training" and rule.high > rule.low:
            steps = not floats and rule.high - rule.low >= 255 and rule.low >= 0 and rule.high < 65536
            return cls(np.uint16 if steps else np.float32, rule.low, rule.high)
        return cls(np.uint16)

    def stored(self, picture):
        """Pixels in 0..1 as a file would hold them: the way back."""
        low, high = (0.0, 65535.0) if self.low is None else (self.low, self.high)
        values = low + picture.astype(np.float64) * (high - low)
        return values.astype(np.float32) if self.dtype == np.float32 else np.rint(values).astype(self.dtype)

    def scaled(self, pixels):
        """float32 in 0..1 from stored pixels, as a program computes it that follows `steps`."""
        low, high = self.low, self.high
        if low is None:
            low, high = np.percentile(pixels, [images.LOW_PERCENTILE, images.HIGH_PERCENTILE])
        return np.clip((pixels - low) / ((high - low) or 1), 0, 1).astype(np.float32)

    def steps(self):
        """The same in the words of the specification; centring is part of the ONNX file."""
        if self.low is None:
            percentiles = {"min_percentile": images.LOW_PERCENTILE, "max_percentile": images.HIGH_PERCENTILE}
            stretch = {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], **percentiles}}
            return [stretch, CLIP, AS_FLOAT32]
        gain = 1 / (self.high - self.low)
        linear = {"id": "scale_linear", "kwargs": {"gain": gain, "offset": -self.low * gain}}
        return [linear, AS_FLOAT32] if self.dtype == np.uint8 else [linear, CLIP, AS_FLOAT32]

    def __str__(self):
        if self.low is None:
            return "values stretched between two percentiles of each picture"
        if self.dtype == np.uint8:
            return "8-bit values divided by 255"
        return f"values from {self.low:g} to {self.high:g}, the same for every picture"
