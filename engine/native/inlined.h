// Functions that must be inlined, so that each is compiled for the instruction set of its caller.
#pragma once

#if defined(__GNUC__)
#define FE_INLINE inline __attribute__((always_inline))
#else
#define FE_INLINE inline
#endif
