"""Why a trained network predicts black, white, grey or noise; see `npunet.doctor.__main__`.

from_records.py    what the loss and the held-out scores say
from_network.py    what the network does with the held-out images: classes, thresholds, dead ReLUs, gradients
by_heart.py        whether a fresh network can learn one tile at all
from_images.py     how a new image differs from the training images
"""
