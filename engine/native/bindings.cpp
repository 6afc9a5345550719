#include <nanobind/nanobind.h>
NB_MODULE(_native, m) { m.doc() = "faceembed's native kernels"; }
