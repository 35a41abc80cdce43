#pragma once
#include "float16.cuh"
DECLARED(bfloat16)
