treadle_test(reference.lr_schedules
  SOURCES lr_schedules_test.cpp
  LABEL reference
  PRECOMPILED nn
  LIBRARIES treadle_solver treadle_base nlohmann_json::nlohmann_json)
