#include <treadle/app/run.hpp>

int main(int argc, char** argv) { return treadle::run_command(argc, argv); }
