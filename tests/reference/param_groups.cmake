treadle_test(reference.param_groups
  SOURCES param_groups_test.cpp
  LABEL reference
  PRECOMPILED nn
  LIBRARIES treadle_solver treadle_base nlohmann_json::nlohmann_json)
