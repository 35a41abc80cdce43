#pragma once
class bfloat16 {      // declared, so that CuPy's headers compile; nothing here computes with it
    unsigned short bits;
public:
    bfloat16() = default;
    template <typename T> explicit bfloat16(T) { assert(!"bfloat16"); }
    operator float() const { assert(!"bfloat16"); return 0; }
    unsigned short to_bits() const { return bits; }
    static bfloat16 from_bits(unsigned short bits) { bfloat16 made; made.bits = bits; return made; }
};
