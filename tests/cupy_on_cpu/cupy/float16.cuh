#pragma once
// A number of 16 bits, declared so that CuPy's headers compile; nothing here computes with it.
#define DECLARED(name)                                                                        \
    class name {                                                                              \
        unsigned short bits;                                                                  \
    public:                                                                                   \
        name() = default;                                                                     \
        template <typename T> explicit name(T) { assert(!#name); }                            \
        operator float() const { assert(!#name); return 0; }                                  \
        unsigned short to_bits() const { return bits; }                                       \
        static name from_bits(unsigned short bits) { name made; made.bits = bits; return made; } \
    };
DECLARED(float16)
