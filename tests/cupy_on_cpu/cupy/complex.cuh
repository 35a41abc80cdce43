#pragma once
template <typename T> class complex;      // nothing here computes with complex numbers, and the real header takes a second to compile
