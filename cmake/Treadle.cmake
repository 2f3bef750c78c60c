# fmt's headers come with LibTorch. From version 11 on, src/base/fmt.cpp compiles what is not a template once for all units.
function(treadle_find_fmt)
  set(version 0)
  foreach(header base.h core.h)
    if(EXISTS "${LibTorch_INCLUDE_DIR}/fmt/${header}" AND NOT version)
      file(STRINGS "${LibTorch_INCLUDE_DIR}/fmt/${header}" line REGEX "#define FMT_VERSION " LIMIT_COUNT 1)
      string(REGEX REPLACE "[^0-9]" "" version "${line}")
    endif()
  endforeach()
  if(version LESS 110000)
    set(treadle_fmt_definition FMT_HEADER_ONLY PARENT_SCOPE)
  else()
    set(treadle_fmt_source fmt.cpp PARENT_SCOPE)
  endif()
endfunction()

# treadle_room(NAME SOURCES … [NN_SOURCES …] [USES room …] [LIBRARIES …] [PRECOMPILED tensor|command]): the library of one room.
# NN_SOURCES are those that include torch/nn or torch/optim, directly or not; a file in the wrong list only compiles more slowly.
# The room's public headers are the files under include/treadle/NAME, a verified set: each compiles alone (build the target
# all_verify_interface_header_sets).
function(treadle_room name)
  cmake_parse_arguments(arg "" "PRECOMPILED" "SOURCES;NN_SOURCES;USES;LIBRARIES" ${ARGN})
  set(target treadle_${name})
  add_library(${target} ${arg_SOURCES})
  add_library(treadle::${name} ALIAS ${target})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/include/treadle/${name}/*.hpp")
  if(EXISTS "${PROJECT_SOURCE_DIR}/include/treadle/${name}.hpp")
    list(APPEND headers "${PROJECT_SOURCE_DIR}/include/treadle/${name}.hpp")
  endif()
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/include" FILES ${headers})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/src")
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_definitions(${target} PRIVATE ${treadle_fmt_definition})
  list(TRANSFORM arg_USES PREPEND treadle_)
  target_link_libraries(${target} PUBLIC ${arg_USES} PRIVATE ${arg_LIBRARIES} $<BUILD_INTERFACE:treadle_warnings>)
  # As long as versions are 0.x, each minor one has an interface of its own.
  set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON EXPORT_NAME ${name}
    VERSION "${PROJECT_VERSION}" SOVERSION "${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}")
  if(arg_PRECOMPILED)
    treadle_precompiled(${target} library ${arg_PRECOMPILED})
  endif()
  if(arg_NN_SOURCES)
    add_library(${target}_nn OBJECT ${arg_NN_SOURCES})
    target_include_directories(${target}_nn PRIVATE "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
    target_compile_features(${target}_nn PRIVATE cxx_std_20)
    target_compile_definitions(${target}_nn PRIVATE ${treadle_fmt_definition})
    target_link_libraries(${target}_nn PRIVATE ${arg_USES} ${arg_LIBRARIES} treadle_warnings)
    treadle_precompiled(${target}_nn library nn)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_nn>)
  endif()
  set_property(GLOBAL APPEND PROPERTY TREADLE_ROOMS ${name})
endfunction()

# Tests are compiled more often than they run; what they test keeps its own flags.
set(treadle_test_options $<$<CONFIG:Release>:-O1>)

# treadle_test(NAME SOURCES … [LABEL label…] [SERIAL] [PRECOMPILED tensor|nn] [TIMEOUT seconds] [LIBRARIES …] [ENVIRONMENT K=V …] [ARGUMENTS …]): one
# executable, one ctest entry of the same name, labelled by its room (or by LABEL). SERIAL keeps other tests away while it runs:
# for what needs the whole machine; tests of `app` always do. A run in which every test skips counts as skipped; each reason is
# shown by tools/test.sh.
function(treadle_test name)
  cmake_parse_arguments(arg "SERIAL" "TIMEOUT;PRECOMPILED" "LABEL;SOURCES;LIBRARIES;ENVIRONMENT;ARGUMENTS" ${ARGN})
  if(NOT arg_LABEL)
    set(arg_LABEL ${name})
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if("app" IN_LIST arg_LABEL)
    set(arg_SERIAL ON)
  endif()
  # Beside each other two tests of as many threads as there are cores take several times as long: the threads of an operator
  # wait for one that does not run. `launch` shares the cores by itself.
  if(NOT arg_SERIAL AND NOT "launch" IN_LIST arg_LABEL)
    list(PREPEND arg_ENVIRONMENT OMP_NUM_THREADS=1)
  endif()
  string(REPLACE "." "_" target "test_${name}")
  add_executable(${target} ${arg_SOURCES})
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES} treadle_warnings treadle_test_main)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/src")
  target_compile_definitions(${target} PRIVATE ${treadle_fmt_definition})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  target_compile_options(${target} PRIVATE ${treadle_test_options})
  if(arg_PRECOMPILED)
    treadle_precompiled(${target} test ${arg_PRECOMPILED})
  endif()
  add_test(NAME ${name} COMMAND ${target} --gtest_brief=1 ${arg_ARGUMENTS})
  set_tests_properties(${name} PROPERTIES LABELS "${arg_LABEL}" TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${arg_ENVIRONMENT}"
    RUN_SERIAL "$<BOOL:${arg_SERIAL}>" SKIP_RETURN_CODE 77)
endfunction()

# treadle_bench(NAME SOURCES … [LIBRARIES …]): the program build/…/benches/bench_NAME, which reports its figures by
# benches/report.hpp.
function(treadle_bench name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  set(target bench_${name})
  add_executable(${target} ${arg_SOURCES})
  target_compile_features(${target} PRIVATE cxx_std_20)
  target_link_libraries(${target} PRIVATE ${arg_LIBRARIES} treadle_bench_support treadle_warnings)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/src")
  target_compile_definitions(${target} PRIVATE ${treadle_fmt_definition})
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/benches")
  add_dependencies(treadle_benches ${target})
endfunction()
