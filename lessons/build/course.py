"""The track: its functions in the paper's order, where each is derived, and what must be right before."""

from dataclasses import dataclass

from lessons.build.checks import (
    borders,
    convolution,
    energy,
    first_steps,
    going_down,
    going_up,
    numbers,
    pictures,
    u,
)


@dataclass(frozen=True)
class Step:
    """One function that the reader writes."""

    name: str
    file: str  # my_unet/FILE.py
    lesson: str  # the notebook's name
    section: str  # its heading, as it stands there
    check: object  # check(Check) raises Wrong
    needs: tuple = ()

    @property
    def read(self):
        return f'lesson {int(self.lesson[:2])}, "{self.section}"'


CONVOLUTION, POOLING, U, ENERGY = (
    "02_convolution",
    "03_pooling_and_up_convolution",
    "04_the_u",
    "05_energy_and_weight_map",
)
BACK, FAST, AUGMENTATION = "06_back_propagation", "07_fast_convolution", "08_augmentation"
TILES, MEASURES, NEEDED = "09_overlap_tile", "10_measures", "00_what_you_need"

FORWARD = ("conv2d", "relu", "max_pool", "up_conv", "crop_concat")
BACKWARD = (
    "unet_forward",
    "conv2d_input_gradient",
    "conv2d_weight_gradient",
    "relu_gradient",
    "max_pool_gradient",
    "up_conv_gradients",
    "crop_concat_gradients",
)
TWO_GRADIENTS, BEND = "Two gradients, one question", "ReLU: the bend"
MAX_POOLING, UP_CONVOLUTION = "Max-pooling: keep the largest of four", "Up-convolution: four matrix products"
TRANSPOSED, FIRST_STEP = "Why it is called a *transposed* convolution", "6. The first weights, and the first step"

STEPS = [
    Step("conv2d", "convolution", CONVOLUTION, "The definition", convolution.check_conv2d),
    Step("conv2d_input_gradient", "convolution", CONVOLUTION, TWO_GRADIENTS, convolution.check_conv2d_input_gradient),
    Step("conv2d_weight_gradient", "convolution", CONVOLUTION, TWO_GRADIENTS, convolution.check_conv2d_weight_gradient),
    Step("relu", "relu", CONVOLUTION, BEND, going_down.check_relu),
    Step("relu_gradient", "relu", CONVOLUTION, BEND, going_down.check_relu_gradient),
    Step("max_pool", "pooling", POOLING, MAX_POOLING, going_down.check_max_pool),
    Step("max_pool_gradient", "pooling", POOLING, MAX_POOLING, going_down.check_max_pool_gradient),
    Step("up_conv", "up_convolution", POOLING, UP_CONVOLUTION, going_up.check_up_conv),
    Step("up_conv_gradients", "up_convolution", POOLING, TRANSPOSED, going_up.check_up_conv_gradients),
    Step("crop_concat", "crop_concat", U, "3. Crop and concatenate", going_up.check_crop_concat),
    Step(
        "crop_concat_gradients",
        "crop_concat",
        BACK,
        "2. Two readers, two gradients",
        going_up.check_crop_concat_gradients,
    ),
    Step("softmax", "energy", ENERGY, "1. Soft-max: an approximated maximum", energy.check_softmax),
    Step("energy", "energy", ENERGY, "3. The gradient is $p - q$", energy.check_energy),
    Step("weight_map", "weight_map", ENERGY, "5. Eq. 2: the gaps between touching cells", borders.check_weight_map),
    Step("initial_weights", "initialization", BACK, FIRST_STEP, first_steps.check_initial_weights),
    Step("momentum_step", "momentum", BACK, FIRST_STEP, first_steps.check_momentum_step),
    Step("adam_step", "momentum", NEEDED, "6. Momentum and Adam", first_steps.check_adam_step),
    Step("unet_forward", "unet", U, "1. Fig. 1, drawn from the program", u.check_unet_forward, FORWARD),
    Step("unet_backward", "unet", BACK, "1. The mirror", u.check_unet_backward, BACKWARD),
    Step("displacement_field", "augmentation", AUGMENTATION, "Nine vectors", pictures.check_displacement_field),
    Step("overlap_tile", "tiling", TILES, "Why tiles stand at multiples of 2^D", pictures.check_overlap_tile),
    Step("v_rand", "measures", MEASURES, "Pairs of pixels: the Rand error", numbers.check_v_rand),
    Step("f23", "winograd", FAST, "3. Two results with four multiplications: F(2, 3) by hand", numbers.check_f23),
]
FILES = list(dict.fromkeys(step.file for step in STEPS))
BY_NAME = {step.name: step for step in STEPS}
