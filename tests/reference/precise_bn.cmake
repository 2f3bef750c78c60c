treadle_test(reference.precise_bn
  SOURCES precise_bn_test.cpp
  LABEL reference
  PRECOMPILED nn
  LIBRARIES treadle_hooks treadle_base nlohmann_json::nlohmann_json)
