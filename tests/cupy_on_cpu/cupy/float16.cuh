#pragma once
class float16 {      // declared, so that CuPy's headers compile; nothing here computes with it
    unsigned short bits;
public:
    float16() = default;
    template <typename T> explicit float16(T) { assert(!"float16"); }
    operator float() const { assert(!"float16"); return 0; }
    unsigned short to_bits() const { return bits; }
    static float16 from_bits(unsigned short bits) { float16 made; made.bits = bits; return made; }
};
