// The unit that carries the precompiled headers; it links, and does nothing.
int main() { return 0; }
