// Writes a picture and reads it again.
#include <treadle/image/image.hpp>

#include <iostream>

int main(int, char** arguments) {
  treadle::save_png(treadle::Image(2, 3, {10, 20, 30}), arguments[1]);
  const treadle::Image image = treadle::load_image(arguments[1]);
  if (image.at(1, 2)[2] != 30) return 1;
  std::cout << "decoded " << image.height() << " x " << image.width() << "\n";
}
