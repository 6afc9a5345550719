// How sharp a picture is: the variance of the Laplacian of its grey levels.
#pragma once

namespace faceembed {

// `pixels` is 8-bit packed RGB of at least 2 x 2 pixels. Grey levels are 0.299 R + 0.587 G + 0.114 B, rounded as OpenCV does (15 bits
// of fraction); the Laplacian is the sum of the four neighbours less four times the pixel, the picture mirrored about its outermost
// pixels. `room` is for 3 * (width + 2) numbers.
double sharpness(const unsigned char* pixels, int height, int width, short* room);

}  // namespace faceembed
